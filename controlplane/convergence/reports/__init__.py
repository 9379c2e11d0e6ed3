"""What the services of each role have to tell the control plane, and where it goes in the tables."""
