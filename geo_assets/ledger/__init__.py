"""Every statement on schema `geo`: jobs, attempts, leases, tasks, inventory, table names."""
