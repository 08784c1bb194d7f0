"""Networks, and reading their hyper-parameters off their weights."""
