"""The hospital's gate: what may be asked of a site, and what may leave it.

Every request passes `admission` before any work, and every reply passes `release` before it leaves. What they check is
the hospital's policy (client/policy.py); what they remember stands in the register (register.py), a file of the site's:
who trains and who is tested, which groups of people were answered for, and how many models were asked about.

A test checks that nothing reaches or leaves a site in another way (tests/client/gate/test_only_way.py).
"""
