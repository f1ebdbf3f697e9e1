"""The use cases: each method is one thing that a caller can want, in one transaction with its audit record.

`broker` holds them all together. By subject: `objects` what a vault holds · `identity` who may · `issuance` and
`issuers` how certificates are made, and by whom · `renewal` · `revocation` · `pki` our own CAs · `deployment`,
`discovery` and `notification` · `drills` · `health`.
"""
