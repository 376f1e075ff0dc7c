"""What each stage of a job does: the engines, the storage and the ledger brought together, in plain Python."""
