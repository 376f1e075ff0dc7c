"""The stages of a job: the engines, the storage and the ledger brought together, in plain Python."""
