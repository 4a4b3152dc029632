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

// Validity of what the replicas issue. Renewal is due when a third of it is left.
const (
	authorityDuration = 365 * 24 * time.Hour
	leafDuration      = 7 * 24 * time.Hour
)

// SelfIssuedCertificate is a certificate signed by an authority that the replicas share in a Secret. Each
// replica signs its own serving certificate, whose key is only in memory. cert-manager's library issues and
// rotates both.
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

// GetCertificate returns this replica's certificate.
func (s *SelfIssuedCertificate) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.source.GetCertificate(hello)
}

// Changed receives after the Secret changed.
func (s *SelfIssuedCertificate) Changed() <-chan struct{} { return s.changed }

// Authority returns the authority's certificate in the Secret.
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
