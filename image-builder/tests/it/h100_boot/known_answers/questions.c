// Known answers for what the driver's SPDM computes through the kernel (nvidia/libspdm_*.c): its hashes, keys, sessions and signatures.
// Loads if all are right, and says which are not. It is in the initrd of a test and in no image.
#include <linux/hex.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "internal_crypt_lib.h"

// No header of the driver's declares them; its other half calls them by these names.
void *libspdm_sha384_new(void);
void libspdm_sha384_free(void *context);
bool libspdm_sha384_init(void *context);
bool libspdm_sha384_duplicate(const void *context, void *copy);
bool libspdm_sha384_update(void *context, const void *data, size_t size);
bool libspdm_sha384_final(void *context, uint8_t *value);
bool libspdm_sha384_hash_all(const void *data, size_t size, uint8_t *value);
void *libspdm_hmac_sha384_new(void);
void libspdm_hmac_sha384_free(void *context);
bool libspdm_hmac_sha384_set_key(void *context, const uint8_t *key, size_t size);
bool libspdm_hmac_sha384_duplicate(const void *context, void *copy);
bool libspdm_hmac_sha384_update(void *context, const void *data, size_t size);
bool libspdm_hmac_sha384_final(void *context, uint8_t *value);
bool libspdm_hmac_sha384_all(const void *data, size_t size, const uint8_t *key, size_t key_size, uint8_t *value);
bool libspdm_hkdf_sha384_expand(const uint8_t *prk, size_t prk_size, const uint8_t *info, size_t info_size, uint8_t *out, size_t size);
bool libspdm_aead_aes_gcm_encrypt(const uint8_t *key, size_t key_size, const uint8_t *iv, size_t iv_size, const uint8_t *added,
	size_t added_size, const uint8_t *in, size_t in_size, uint8_t *tag, size_t tag_size, uint8_t *out, size_t *out_size);
bool libspdm_aead_aes_gcm_decrypt(const uint8_t *key, size_t key_size, const uint8_t *iv, size_t iv_size, const uint8_t *added,
	size_t added_size, const uint8_t *in, size_t in_size, const uint8_t *tag, size_t tag_size, uint8_t *out, size_t *out_size);
void *libspdm_ec_new_by_nid(size_t nid);
void libspdm_ec_free(void *context);
bool libspdm_ec_generate_key(void *context, uint8_t *public, size_t *size);
bool libspdm_ec_compute_key(void *context, const uint8_t *peer, size_t peer_size, uint8_t *key, size_t *size);
bool libspdm_ecdsa_verify(void *context, size_t hash, const uint8_t *digest, size_t digest_size, const uint8_t *signature, size_t size);

int nv_printf(unsigned int level, const char *format, ...);

// The driver's log, which libspdm_x509.c writes to.
int nv_printf(unsigned int level, const char *format, ...)
{
	return 0;
}

static unsigned int asked, right;

static void expect(const char *what, bool good)
{
	asked++;
	right += good;
	if (!good)
		pr_err("known_answers: wrong: %s\n", what);
}

static bool is(const u8 *value, const char *hex)
{
	u8 byte;

	for (; *hex; hex += 2, value++)
		if (hex2bin(&byte, hex, 1) || byte != *value)
			return false;
	return true;
}

// FIPS 180-4's example. Of SPDM's transcript the driver goes on with copies.
static void hashes(void)
{
	static const char abc[] = "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";
	void *first = libspdm_sha384_new(), *copy = libspdm_sha384_new();
	u8 one[48], two[48];

	expect("SHA-384", libspdm_sha384_hash_all("abc", 3, one) && is(one, abc));
	expect("SHA-384 of a copied state", first && copy && libspdm_sha384_init(first) && libspdm_sha384_init(copy)
		&& libspdm_sha384_update(first, "a", 1) && libspdm_sha384_duplicate(first, copy)
		&& libspdm_sha384_update(first, "bc", 2) && libspdm_sha384_final(first, one) && is(one, abc)
		&& libspdm_sha384_update(copy, "bc", 2) && libspdm_sha384_final(copy, two) && is(two, abc));
	libspdm_sha384_free(first);
	libspdm_sha384_free(copy);
}

// RFC 4231, test case 2. The copy never had the key: that is how the driver's other half makes one.
static void macs(void)
{
	static const char jefe[] = "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649";
	void *first = libspdm_hmac_sha384_new(), *copy = libspdm_hmac_sha384_new();
	u8 one[48], two[48];

	expect("HMAC", libspdm_hmac_sha384_all("what do ya want for nothing?", 28, "Jefe", 4, one) && is(one, jefe));
	expect("HMAC of a copied state", first && copy && libspdm_hmac_sha384_set_key(first, "Jefe", 4)
		&& libspdm_hmac_sha384_update(first, "what do ya want ", 16) && libspdm_hmac_sha384_duplicate(first, copy)
		&& libspdm_hmac_sha384_update(first, "for nothing?", 12) && libspdm_hmac_sha384_final(first, one) && is(one, jefe)
		&& libspdm_hmac_sha384_update(copy, "for nothing?", 12) && libspdm_hmac_sha384_final(copy, two) && is(two, jefe));
	libspdm_hmac_sha384_free(first);
	libspdm_hmac_sha384_free(copy);
}

// RFC 5869's expansion with SHA-384, by Python's hmac.
static void keys(void)
{
	u8 prk[48], out[60];
	int at;

	for (at = 0; at < 48; at++)
		prk[at] = at;
	expect("HKDF", libspdm_hkdf_sha384_expand(prk, 48, "chrysalis", 9, out, 60)
		&& is(out, "10d8e996f8a689dd000bb5f0438267b49464a79fffea20e115c83c5f3cc97f4910d74bf5dcaa2fc7c04e0ab6016437d704eef78c09b75001056f4a1f"));
}

// McGrew and Viega, The Galois/Counter Mode of Operation, test case 16.
static void ciphers(void)
{
	u8 key[32], iv[12], added[20], plain[60], sealed[60], opened[60], tag[16];
	size_t size = 60;
	int bad = hex2bin(key, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", 32)
		|| hex2bin(iv, "cafebabefacedbaddecaf888", 12) || hex2bin(added, "feedfacedeadbeeffeedfacedeadbeefabaddad2", 20)
		|| hex2bin(plain, "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
			"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39", 60);

	expect("sealing with AES-256-GCM", !bad
		&& libspdm_aead_aes_gcm_encrypt(key, 32, iv, 12, added, 20, plain, 60, tag, 16, sealed, &size)
		&& is(sealed, "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662")
		&& is(tag, "76fc6ece0f4e1768cddf8853bb2d551b"));
	expect("opening it", libspdm_aead_aes_gcm_decrypt(key, 32, iv, 12, added, 20, sealed, 60, tag, 16, opened, &size)
		&& !memcmp(opened, plain, 60));
	tag[0] ^= 1;
	expect("refusing a changed tag", !libspdm_aead_aes_gcm_decrypt(key, 32, iv, 12, added, 20, sealed, 60, tag, 16, opened, &size));
}

// RFC 6979, A.2.6, the message "sample" with SHA-384.
static void signatures(void)
{
	void *key = libspdm_ec_new_by_nid(LIBSPDM_CRYPTO_NID_SECP384R1);
	u8 public[96] __aligned(8), signature[96] __aligned(8), digest[48];
	int bad = hex2bin(public, "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13"
			"8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720", 96)
		|| hex2bin(signature, "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46"
			"99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8", 96);

	bad = bad || !libspdm_sha384_hash_all("sample", 6, digest) || !key;
	expect("verifying ECDSA P-384", !bad && lkca_ec_set_pub_key(key, public, 96)
		&& libspdm_ecdsa_verify(key, LIBSPDM_CRYPTO_NID_SHA384, digest, 48, signature, 96));
	digest[0] ^= 1;
	expect("refusing another message", !bad && !libspdm_ecdsa_verify(key, LIBSPDM_CRYPTO_NID_SHA384, digest, 48, signature, 96));
	public[95] ^= 1;
	expect("refusing a point that is not on the curve", !bad && !lkca_ec_set_pub_key(key, public, 96));
	libspdm_ec_free(key);
}

static void exchanges(void)
{
	void *one = libspdm_ec_new_by_nid(LIBSPDM_CRYPTO_NID_SECP384R1), *two = libspdm_ec_new_by_nid(LIBSPDM_CRYPTO_NID_SECP384R1);
	u8 public_one[96] __aligned(8), public_two[96] __aligned(8), secret_one[48] __aligned(8), secret_two[48] __aligned(8);
	size_t public_size = 96, size_one = 48, size_two = 48;

	expect("agreeing by ECDH P-384", one && two && libspdm_ec_generate_key(one, public_one, &public_size)
		&& libspdm_ec_generate_key(two, public_two, &public_size) && memcmp(public_one, public_two, 96)
		&& libspdm_ec_compute_key(one, public_two, 96, secret_one, &size_one)
		&& libspdm_ec_compute_key(two, public_one, 96, secret_two, &size_two) && !memcmp(secret_one, secret_two, 48));
	libspdm_ec_free(one);
	libspdm_ec_free(two);
}

static int __init known_answers(void)
{
	hashes();
	macs();
	keys();
	ciphers();
	signatures();
	exchanges();
	pr_info("known_answers: %u of %u\n", right, asked);
	return right == asked ? 0 : -EINVAL;
}

static void __exit leave(void)
{
}

module_init(known_answers);
module_exit(leave);
MODULE_DESCRIPTION("Known answers for the driver's cryptography, for tests");
MODULE_LICENSE("Dual MIT/GPL");
