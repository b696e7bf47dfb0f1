package ca

import "encoding/hex"

// sharedKey says where a private key is printed that everybody can have: in a
// document, as an example or for tests, from where it gets into programs and their
// configurations. The hash is SHA-256 of the SubjectPublicKeyInfo. It returns ""
// for a key that is not in the table.
//
// Not here are the lists of keys that a broken generator has made, such as the
// 32,767 of each size of Debian's OpenSSL (CVE-2008-0166): they are as large as
// this program. Whoever wants them refused has them in a file (ca.blocked-keys).
func sharedKey(hash [32]byte) string {
	switch hex.EncodeToString(hash[:]) {
	case "5a7a78cca4a0f420d9bc62bb669c3c2759e39f723d3ae10dcbe0f0815a07ecd4":
		return "RFC 6979, A.2.5"
	case "2f95601fa82060b909bfc6b979dbd303d34d34e0afb27ea496beac362f242a4b":
		return "RFC 6979, A.2.6"
	case "2fb6d46385242ea4ad431f7175e7014eb74a5fc60f65b50ca54cc23c5b08de38":
		return "RFC 6979, A.2.7"
	case "6fd13c2435a361e7c588cd17f55f5ad3df0177a66c1727a6a200845f4d7ab88c":
		return "RFC 7515, A.2"
	case "2bd1bb0c44a897c30a7aa0991cde38d8062fe441de50da0f46825344f602e827":
		return "RFC 7515, A.3"
	case "9146ce73d6abeda5e0ab6926e7bd9b563f2f2258b488d520534a0b84ba5871df":
		return "RFC 7515, A.4"
	case "51b944cdfa544d4c3273aa6bf350625a7dd53bbb6a71723274f538b19a207760":
		return "RFC 7517, A.2, EC"
	case "ad32320cf6c596d884b05381ba573aba8ddd5749b4de8f4a23a79f9a89ddaeb2":
		return "RFC 7517, A.2, RSA"
	case "c6479a15a50ac4cd9b6414e27c69bf37345dc1046dc648875c4898fbd35cc74b":
		return "RFC 7520, 3.1"
	case "627771f25da426d1f9ae315e42106d700b1529850eee1592acf39603959d795d":
		return "RFC 7520, 3.3"
	case "06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9":
		return "RFC 8032, 7.1, test 1"
	case "deb2ded39dc26fce0e6085b6fc34bf6b5941913bbfe2ea614113cff9e004c170":
		return "RFC 8032, 7.1, test 2"
	case "8d39ba50abe50f77b6bb8ae7b6927aff7ffbeba35ad2837c0e51e82bcbcc60d5":
		return "RFC 8032, 7.1, test 3"
	case "e4f982b51ad0bdd87be820b259fe80337ef636e72b9fa7a8867a6949eb610fd6":
		return "RFC 8032, 7.1, test 1024"
	case "e77db4a9572e9f6552c22bc751d5499ad218a73bdf7e15dc6ea0fc69246a44de":
		return "RFC 8032, 7.1, test SHA(abc)"
	case "8fb6bad671cfe698393c453357da61b56d757ab8c0f3fb9c87f2849e63131878":
		return "RFC 9500, 2.1"
	case "b2b04340cfaee616ec9c2c62d261b208e54bb197498df52e8cadede23ac0ba5e":
		return "RFC 9500, 2.3, P-256"
	case "c4c10105a0be0ed4dd3354428dc38a9bfee64da141ce16e75c94eda272f9dd3a":
		return "RFC 9500, 2.3, P-384"
	case "acb1b8327fef995e2458fdf5e3c33b2dc0749feabd6a894cb9bda9d70ac06c24":
		return "RFC 9500, 2.3, P-521"
	case "5cd252fb0ce8932436faf8ccd1040981b89ee4ad6b9fe9e2a2b7e71aacb27cd3":
		return "private key 1"
	case "29f8fe74f38c49d49810cec736a26732a30bff2e64827b709a1c63340d4f7181":
		return "private key 1"
	case "dcaa139396632a8daba1ba49ceccce0c417786f014698a06221b083d77754bda":
		return "private key 1"
	}
	return ""
}
