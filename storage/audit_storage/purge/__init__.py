"""What is past its retention leaves every store, with a receipt."""
