// Package identity knows who may speak to the hub: gateways by certificates of the
// hub's own authority, people by password and session, machines by tokens.
//
//	authority, err := identity.OpenAuthority(dir, identity.Files{}, now)
//	edges, err := identity.NewEdges(authority, store, time.Now)
//	token, err := edges.NewToken("lac-duong-01", "24848", 24*time.Hour, "lan")
//	answer, err := edges.Enrol(request)
//	edge, err := edges.Check(certificate)
//
// # Gateways
//
// The authority's key is made at the first start of a hub, or supplied. It signs a
// certificate for each gateway that shows a token: tokens work once, for one key,
// end by themselves, and are kept as hashes. A certificate holds when the authority
// signed it, its time has not passed by the hub's clock, and the edge has not been
// revoked or enrolled anew since. What is kept for that is one record for each edge:
// a hub restored from an older backup goes on with certificates that were renewed
// since. What was revoked since must be revoked again.
//
// # People and machines
//
// See [Users]: roles, groups of sites, sessions, tokens, limits on attempts.
//
// # What is kept
//
// Records are JSON under a kind and an id in a [Store], with fields only ever
// added. Secrets are never among them: passwords as argon2id, everything random as
// SHA-256. The authority's key is a file of its own, mode 0600.
package identity
