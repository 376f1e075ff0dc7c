"""What somebody is to hear of, told to a webhook: jobs that failed, bad files, runs that died, messages in poison."""
