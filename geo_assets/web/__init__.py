"""Shared by all web servers of the project: who may connect, and time limits."""
