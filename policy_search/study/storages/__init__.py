"""What lies beneath a study's storage: databases, their patience, locks and attributes (study/storage.py opens it)."""
