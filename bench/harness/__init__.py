"""What the benchmarks share: measuring, the processes they measure in, the peers' environments, the work.

Standard library only, since a peer's environment has none of Covey's packages.
"""
