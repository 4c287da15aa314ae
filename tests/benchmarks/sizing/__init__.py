"""What one call costs each part of a cluster, and what so many calls therefore need: docs/operations.md, *Sizing*."""
