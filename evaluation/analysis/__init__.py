"""Where a backbone's parameters, multiply-adds and time lie, and how its features change with depth."""
