"""What people run: Prefect flows, their deployments' entry points, the command line."""
