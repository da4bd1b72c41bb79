package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// The cost of a password, as OWASP's cheat sheet has it for argon2id: 19 MiB, two
// passes, one lane.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	argonKey    = 32
	argonSalt   = 16
)

// The bounds of a password, in characters and bytes.
const (
	minPassword = 10
	maxPassword = 256
)

// ErrPassword says that a new password cannot be taken.
var ErrPassword = errors.New("this password cannot be taken")

func checkPassword(name, password string) error {
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return fmt.Errorf("%w: it has fewer than %d characters; a sentence is easy to remember", ErrPassword, minPassword)
	case len(password) > maxPassword:
		return fmt.Errorf("%w: it has more than %d bytes", ErrPassword, maxPassword)
	case strings.Contains(strings.ToLower(password), strings.ToLower(name)) && len(password) < len(name)+minPassword:
		return fmt.Errorf("%w: it is little more than the user's name", ErrPassword)
	case strings.Count(password, password[:1]) == len(password):
		return fmt.Errorf("%w: it is one character again and again", ErrPassword)
	}
	return nil
}

// hashPassword is the PHC string of argon2id.
func hashPassword(password string) string {
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // never fails, says its documentation
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, argonKey)
	b := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes, b.EncodeToString(salt), b.EncodeToString(key))
}

// samePassword compares in constant time. A hash that cannot be read fits nothing.
func samePassword(hash, password string) bool {
	var version, memory, time, lanes int
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || len(password) > maxPassword {
		return false
	}
	if n, err := fmt.Sscanf(parts[2], "v=%d", &version); n != 1 || err != nil || version != argon2.Version {
		return false
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &lanes); n != 3 || err != nil {
		return false
	}
	if memory < 8 || memory > 1<<20 || time < 1 || time > 100 || lanes < 1 || lanes > 16 {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) < 16 {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, uint32(time), uint32(memory), uint8(lanes), uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1
}
