"""What `make bench` is made of: the parts around the gateway, the contestants, the scenarios and the report."""
