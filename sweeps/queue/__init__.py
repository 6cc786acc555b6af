"""What submissions and workers share: manifests, leases, failures and retries, and the interface of executors.

It may import `study`.
"""
