"""What arrives: the parameters of each job type, and what makes two requests the same job."""
