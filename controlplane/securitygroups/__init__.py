"""Security groups (guide: chapter 15.7): rows, the policy that they make, and its way to the hosts."""
