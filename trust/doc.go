// Package trust publishes what clients have to trust, in a TUF repository.
//
// A client is given one root.json once. From it, and from nothing else, it
// gets the keys of the certificate authority and of the logs, and the URLs to
// sign with. So two things must never disagree: what the server signs with and
// what this repository says. The server therefore hands over everything that
// it signs with as one Material, Publish writes it, and Contains tells, before
// a key is used, whether clients can already know it.
//
// # The repository
//
// It follows the TUF specification 1.0 with the four top-level roles, one
// ECDSA P-256 key each with threshold 1, and consistent snapshots. It lies on
// disk as plain files, so that a copy of the directory is a complete mirror:
//
//	1.root.json, 2.root.json, ...     every root version, for ever
//	root.json                         a copy of the newest, for bootstrapping
//	timestamp.json
//	N.snapshot.json, N.targets.json
//	targets/<sha256>.<name>           the targets
//
// The targets are trusted_root.json and signing_config.v0.2.json, and, for
// clients older than those, one file for each key with its use in
// custom.sigstore: fulcio.crt.pem (a whole chain; such clients tell roots from
// intermediates by subject and issuer), ctfe.pub and rekor.pub. An instance
// beside the first of its sort, and a retired one, has 16 hexadecimal digits of
// its identity in the name: rekor_<id>.pub.
//
// # Guarantees
//
//   - Every file is written beside its place, synced and renamed, in the order
//     root, target files, targets, snapshot, timestamp. A client begins with
//     timestamp.json, so writing that file is the commit point: before it the
//     old repository is complete, after it the new one is. A new root is its
//     own commit point, because clients ask for N+1.root.json first.
//   - Opening verifies every root against the one before it, every signature,
//     version, length and hash. It finishes what an interruption left: roles
//     that the newest root no longer vouches for are signed again at once.
//   - Versions only grow, and a versioned name that a timestamp has vouched for
//     is never written again with different bytes.
//   - An instance that was published once stays in trusted_root.json; when it
//     is no longer in the Material it gets an end of validity: of a log at once,
//     of an authority 25 hours later, because what it signed last is still used.
//     Old signatures stay verifiable.
//   - The same Material gives the same bytes, and then nothing is published.
//   - Readers see one generation at a time. The files of the generation before
//     are still served, for clients in the middle of a refresh.
//
// # Known holes
//
// A directory restored from a backup continues with the versions of the
// backup; clients that saw later ones refuse until the versions have caught up.
// Two processes must not open the same directory: nothing here locks it. A
// mirror that is copied within the milliseconds in which the key of a role (not
// a key that the targets name) changes, or after a crash there and before the
// next opening, has the new root with metadata of the old key, which clients
// refuse. The
// root key has threshold 1 when this package makes root 1; a root that was made
// elsewhere with several root keys is served and kept, but not renewed here.
package trust
