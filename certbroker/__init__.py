"""certbroker: a key vault that gets, keeps, renews and watches certificates.

A map, from the outside in:

    cli       the command line                     process       what listens and runs, from start to stop
    app       what is put together, in one place   config        how it is configured
    web       HTTP: Key Vault, OAuth, admin        engine        the ticker over due work
    services  the use cases, a transaction each    store         the database · keystore: keys and the seal
    egress    the way out · notify: who is told    issuers/      where certificates come from (beside this package)
    ports     what services need, as protocols     domain        values and decisions, without I/O
"""
