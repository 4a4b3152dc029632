package certificate

import (
	"slices"
	"testing"
	"time"
)

// names are the authorities in a bundle.
func names(t *testing.T, bundle []byte) []string {
	t.Helper()
	certs, err := parseCertificates(bundle)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range certs {
		out = append(out, c.Subject.CommonName)
	}
	return out
}

func TestBundle(t *testing.T) {
	rotation := time.Now()
	year := 365 * 24 * time.Hour
	old := newAuthority(t, "old", rotation.Add(-year), rotation.Add(year))
	expired := newAuthority(t, "expired", rotation.Add(-year), rotation.Add(-time.Minute))
	now := newAuthority(t, "new", rotation, rotation.Add(year))
	for _, c := range []struct {
		name      string
		published []byte
		at        time.Duration
		want      []string
	}{
		{"first", nil, 0, []string{"new"}},
		{"unchanged", now.pem(), 0, []string{"new"}},
		{"rotated", old.pem(), time.Minute, []string{"new", "old"}},
		{"rotated and seen", slices.Concat(now.pem(), old.pem()), time.Minute, []string{"new", "old"}},
		{"long rotated", slices.Concat(now.pem(), old.pem()), Overlap + time.Second, []string{"new"}},
		{"expired", expired.pem(), time.Minute, []string{"new"}},
		{"garbage", []byte("garbage"), time.Minute, []string{"new"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bundle, err := AuthorityBundle(now.pem(), c.published, rotation.Add(c.at))
			if err != nil {
				t.Fatal(err)
			}
			if got := names(t, bundle); !slices.Equal(got, c.want) {
				t.Errorf("bundle %v, want %v", got, c.want)
			}
		})
	}
}

func TestBundleNeedsAnAuthority(t *testing.T) {
	for _, text := range []string{"", "garbage"} {
		if got, err := AuthorityBundle([]byte(text), nil, time.Now()); err == nil {
			t.Errorf("authority %q: got %q, want an error", text, got)
		}
	}
}
