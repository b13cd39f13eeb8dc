"""`python -m jobs.doctor`: whether what jobs and the server need is there, with what to do where it is not."""
