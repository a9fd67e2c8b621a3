"""What an experiment is: its file, plan, options, record and progress (detection/matrix.py runs it)."""
