package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/scrypt"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"edgefleet.local/k3s_double/supervisor"
)

const (
	hashFormat = "$%d:%x:%d:%d:%d:%s" // version, salt, cost as a power of two, block size, parallelism, key
	hashKey    = "hash"
)

// passwordKeeper keeps what nodes show when they join, hashed, in an immutable secret each.
type passwordKeeper struct{ client kubernetes.Interface }

func (k *passwordKeeper) HasNode(ctx context.Context, name string) (bool, error) {
	_, err := k.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func passwordSecret(node string) string { return strings.ToLower(node) + ".node-password.k3s" }

func (k *passwordKeeper) EnsurePassword(ctx context.Context, name, password string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	secrets := k.client.CoreV1().Secrets(systemSpace)
	secret, err := secrets.Get(ctx, passwordSecret(name), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		hash, err := hashOf(password)
		if err != nil {
			return err
		}
		immutable := true
		secret = &corev1.Secret{Immutable: &immutable, Data: map[string][]byte{hashKey: []byte(hash)}}
		secret.Name = passwordSecret(name)
		_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
		return err
	} else if err != nil {
		return err
	}
	if err := verifyHash(string(secret.Data[hashKey]), password); err != nil {
		return fmt.Errorf("%w %s: %w", supervisor.ErrRejected, name, err)
	}
	return nil
}

func hashOf(password string) (string, error) {
	const cost, block, parallel, keyLength, saltLength = 15, 8, 1, 64, 8
	salt := make([]byte, saltLength)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	key, err := scrypt.Key([]byte(password), salt, 1<<cost, block, parallel, keyLength)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(hashFormat, 1, salt, cost, block, parallel, base64.RawStdEncoding.EncodeToString(key)), nil
}

func verifyHash(hash, password string) error {
	var version, cost, block, parallel int
	var salt []byte
	var encoded string
	if _, err := fmt.Sscanf(hash, hashFormat, &version, &salt, &cost, &block, &parallel, &encoded); err != nil {
		return fmt.Errorf("hash can't be read: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	key, err := scrypt.Key([]byte(password), salt, 1<<cost, block, parallel, len(want))
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(want, key) != 1 {
		return fmt.Errorf("hash does not match")
	}
	return nil
}
