"""Receipts: what a job did, written beside its COGs; checking it later, and making a lost database again from it."""
