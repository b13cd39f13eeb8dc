"""`python -m jobs.doctor`: check whether what jobs and the server need is there, and say how to fix what is not."""
