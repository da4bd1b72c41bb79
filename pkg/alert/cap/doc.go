// Package cap writes alerts as documents of the Common Alerting Protocol 1.2
// (OASIS, urn:oasis:names:tc:emergency:cap:1.2).
//
//	docs := cap.Documents(history, where, cap.Sender{ID: "ioc@example.vn", Scope: "Restricted", Category: "Env"})
//	b, err := docs[len(docs)-1].Encode()
//
// The first entry of an alert's history is an Alert; each change of severity an
// Update; its end a Cancel. Updates and Cancels refer to all documents before
// them. What people do to an alert makes no document. Tests are Exercise, not
// Actual. Documents depend on the entries alone, so the same one is written the
// same way every time.
package cap
