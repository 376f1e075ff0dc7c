"""What is deleted after some time, and what killed processes have left."""
