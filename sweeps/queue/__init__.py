"""What submissions and workers share: manifests, snapshots of the code, leases, failures, retries, executors.

It may import `study`.
"""
