/* A PKCS #11 module that passes everything to the one in KEYSTORE_MODULE, and
 * fails as the file in KEYSTORE_FAULT says. It declares of PKCS #11, version
 * 2.40, what it needs: the order of the function list. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long rv;
typedef rv (*function)();

enum { OPEN_SESSION = 12, LOGIN = 18, GET_SLOT_LIST = 4, SIGN_INIT = 42, SIGN = 43, FUNCTIONS = 68 };

struct list {
	unsigned char version[2];
	function at[FUNCTIONS];
};

static struct list *real, ours;

static const char *fault(void) {
	static __thread char text[32];
	FILE *f = fopen(getenv("KEYSTORE_FAULT"), "r");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	if (f) fclose(f);
	text[n] = 0;
	return text;
}

/* troubled waits while the module is silent, and returns what is wrong with it. */
static rv troubled(void) {
	while (!strcmp(fault(), "silent")) usleep(5000);
	if (!strcmp(fault(), "gone")) return 0x32;   /* CKR_DEVICE_REMOVED */
	if (!strcmp(fault(), "broken")) return 0x30; /* CKR_DEVICE_ERROR */
	if (!strcmp(fault(), "busy")) return 0x31;   /* CKR_DEVICE_MEMORY */
	return 0;
}

static rv open_session(unsigned long slot, unsigned long flags, void *app, void *notify, unsigned long *session) {
	rv r = troubled();
	return r ? r : real->at[OPEN_SESSION](slot, flags, app, notify, session);
}

static rv sign_init(unsigned long session, void *mechanism, unsigned long key) {
	rv r = troubled();
	return r ? r : real->at[SIGN_INIT](session, mechanism, key);
}

static rv sign(unsigned long session, unsigned char *data, unsigned long n, unsigned char *signature, unsigned long *length) {
	rv r = troubled();
	if (!r) r = real->at[SIGN](session, data, n, signature, length);
	if (!r && signature && !strcmp(fault(), "wrong")) signature[*length / 2] ^= 1;
	if (!r && signature && !strcmp(fault(), "nonsense")) *length = 1;
	return r;
}

rv C_GetFunctionList(struct list **out) {
	if (!real) {
		void *module = dlopen(getenv("KEYSTORE_MODULE"), RTLD_NOW | RTLD_LOCAL);
		rv (*get)(struct list **) = module ? (rv (*)(struct list **))dlsym(module, "C_GetFunctionList") : NULL;
		if (!get || get(&real)) return 5; /* CKR_GENERAL_ERROR */
		ours = *real;
		ours.at[OPEN_SESSION] = (function)open_session;
		ours.at[SIGN_INIT] = (function)sign_init;
		ours.at[SIGN] = (function)sign;
	}
	*out = &ours;
	return 0;
}
