"""Ten years in minutes: the real engine and store under a clock that is moved by hand, against a simulated CA.

world    what the years bring, drawn from a seed      ca, limits   the CAs, and what they enforce by themselves
issuer   the issuer kind that asks them               site         a broker that lives in simulated time
ideal    how many orders there should be              watch        what is seen from outside of the broker
memory   the store, without what only threads and disks need
years    the loop over the years
record   what is kept of a run                        picture, svg, page   what is drawn and written of it
"""
