"""What every appliance has, whatever its role: its row, its NICs and control address, and its machine."""
