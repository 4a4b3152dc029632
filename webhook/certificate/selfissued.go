package certificate

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	cmtls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// How long what the replicas issue is valid. Each is renewed a third of its
// time before it ends.
const (
	authorityDuration = 365 * 24 * time.Hour
	leafDuration      = 7 * 24 * time.Hour
)

// SelfIssuedCertificate is a certificate of the replicas' own authority: its certificate
// and key are in a Secret that they share, and each signs its own serving
// certificate, whose key never leaves its memory. The work is cert-manager's,
// as for its own webhook.
type SelfIssuedCertificate struct {
	source  *cmtls.DynamicSource
	secret  types.NamespacedName
	reader  client.Reader
	changed chan struct{}
	log     *slog.Logger
}

// NewSelfIssuedCertificate makes a certificate for the DNS names. The Secret must exist;
// it may be empty.
func NewSelfIssuedCertificate(config *rest.Config, reader client.Reader, secret types.NamespacedName, dnsNames []string, log *slog.Logger) *SelfIssuedCertificate {
	ca := &authority.DynamicAuthority{
		SecretNamespace: secret.Namespace, SecretName: secret.Name,
		CommonName: "tierwall webhook", RESTConfig: config,
		CADuration: authorityDuration, LeafDuration: leafDuration,
	}
	changed := make(chan struct{}, 1)
	ca.WatchRotation(changed)
	return &SelfIssuedCertificate{
		secret: secret, reader: reader, changed: changed, log: log,
		source: &cmtls.DynamicSource{DNSNames: dnsNames, RetryInterval: 100 * time.Millisecond, Authority: ca},
	}
}

// Start keeps the authority and the certificate until ctx ends.
func (s *SelfIssuedCertificate) Start(ctx context.Context) error {
	return s.source.Start(logr.NewContext(ctx, logr.FromSlogHandler(s.log.Handler())))
}

// GetCertificate is this replica's certificate.
func (s *SelfIssuedCertificate) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.source.GetCertificate(hello)
}

// Changed receives after the Secret changed.
func (s *SelfIssuedCertificate) Changed() <-chan struct{} { return s.changed }

// Authority is the authority's certificate in the Secret.
func (s *SelfIssuedCertificate) Authority(ctx context.Context) ([]byte, error) {
	secret := &corev1.Secret{}
	if err := s.reader.Get(ctx, s.secret, secret); err != nil {
		return nil, fmt.Errorf("read the authority in Secret %s: %w", s.secret, err)
	}
	pem := secret.Data[corev1.TLSCertKey]
	if len(pem) == 0 {
		return nil, fmt.Errorf("no authority yet in Secret %s", s.secret)
	}
	return pem, nil
}
