// Package enrol is what a gateway and its hub say to each other until the gateway
// has a certificate: the token that an operator hands over, the request for a
// certificate and its answer, and the connections that trust one authority alone.
//
//	token, err := enrol.ParseToken(text)
//	got, err := enrol.Dir(dir).Enrol(ctx, "https://hub.example:8443", token)
//	id, err := enrol.Dir(dir).Open()
//	config := id.TLS(clock) // for MQTT and HTTPS to the hub
//
// # Trust
//
// A token carries the fingerprint of the hub's authority, so the first connection is
// checked already: the hub shows its authority beside its own certificate, and both
// must fit. From then on the authority is kept and nothing else is believed: not the
// system's list of authorities, not a name, not an address. A gateway may reach its
// hub under any address.
//
// A gateway's clock may be wrong by years. While it is not trusted, the time of a
// certificate is not looked at; who issued it is.
//
// # Files
//
// The folder of an enrolled gateway holds edge.pem (its certificate and key, mode
// 0600, always written together), authority.pem, and hub.json (where to renew).
// pending.key is a key whose certificate has not come yet: a repeated attempt with
// the same token uses it again, so that an answer that got lost costs no token.
package enrol
