package rego

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// The bounds of a bundle, in bytes and files.
const (
	// MaxBundle is of the bundle as it comes, compressed.
	MaxBundle = 4 << 20
	maxPacked = 32 << 20
	maxFile   = 1 << 20
	maxFiles  = 1000
)

// Bundle is guardrails from an OPA bundle (openpolicyagent.org/docs/management-bundles).
type Bundle struct {
	// Revision is that of its manifest, a whole number that grows.
	Revision int64
	sources  map[string]*source
}

// Keys verify the signature of a bundle.
type Keys struct{ config *bundle.VerificationConfig }

// NewKeys are those of a public key (PEM) and the algorithm that it is used with,
// such as RS256, ES256 or EdDSA (RFC 7518).
func NewKeys(publicKey, algorithm string) (Keys, error) {
	const id = "key"
	if !strings.Contains(publicKey, "PUBLIC KEY") {
		return Keys{}, errors.New("want a public key in PEM form")
	}
	if !slices.Contains([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}, algorithm) {
		return Keys{}, fmt.Errorf("%q is not an algorithm for public keys", algorithm)
	}
	return Keys{bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{id: {Key: publicKey, Algorithm: algorithm}}, id, "", nil)}, nil
}

// ReadBundle reads a bundle that must be signed by the keys: nothing of it is parsed
// before its signature is verified. Every guardrail in it must compile, judge an
// example and pass the tests that come with it; one that does not spoils the whole,
// since half a bundle is not what was signed.
func ReadBundle(ctx context.Context, packed []byte, keys Keys) (*Bundle, error) {
	if err := checkBundleSize(packed); err != nil {
		return nil, err
	}
	b, err := bundle.NewReader(bytes.NewReader(packed)).WithBundleVerificationConfig(keys.config).
		WithSizeLimitBytes(maxFile).WithCapabilities(capabilities()).WithRegoVersion(ast.RegoV1).WithProcessAnnotations(true).Read()
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", singleLineError(err))
	}
	out := &Bundle{sources: map[string]*source{}}
	if out.Revision, err = strconv.ParseInt(b.Manifest.Revision, 10, 64); err != nil || out.Revision < 1 {
		return nil, fmt.Errorf("the bundle's revision is %q; want a whole number that grows with each bundle", b.Manifest.Revision)
	}
	if len(b.WasmModules)+len(b.PlanModules) > 0 {
		return nil, errors.New("the bundle has compiled policies; want Rego")
	}
	if err := out.addModules(ctx, b.Modules); err != nil {
		return nil, fmt.Errorf("bundle revision %d: %w", out.Revision, singleLineError(err))
	}
	return out, nil
}

// checkBundleSize looks at what a bundle would be unpacked, before anything holds it.
func checkBundleSize(packed []byte) error {
	if len(packed) > MaxBundle {
		return fmt.Errorf("the bundle has more than %d bytes", MaxBundle)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("the bundle is no tar.gz file: %w", err)
	}
	limited := &io.LimitedReader{R: unzipped, N: maxPacked}
	files := tar.NewReader(limited)
	for n := 0; ; n++ {
		_, err := files.Next()
		switch {
		case limited.N <= 0 || n > maxFiles:
			return fmt.Errorf("the bundle has more than %d bytes unpacked, or more than %d files", maxPacked, maxFiles)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the bundle is damaged: %w", err)
		}
	}
}

// addModules takes in the modules of a bundle: guardrails first, then their tests. The
// shared package may be in it, as "opa build" needs it, but it is not used: ours is.
func (b *Bundle) addModules(ctx context.Context, modules []bundle.ModuleFile) error {
	tests := map[string]bundle.ModuleFile{}
	for _, m := range modules {
		if m.Parsed.Package.Path.Equal(sharedPackage) {
			continue
		}
		name, ok := guardrailName(m.Parsed.Package.Path)
		if !ok {
			return ast.Errors{sourceError(m.Parsed.Package.Location, "package is %s; that of a guardrail is %s and its name",
				dottedPath(m.Parsed.Package.Path), dottedPath(guardrailsPackage))}
		}
		if of, isTest := strings.CutSuffix(name, "-test"); isTest {
			if tests[of].Parsed != nil {
				return ast.Errors{sourceError(m.Parsed.Package.Location, "there is a second file of tests of %s", of)}
			}
			tests[of] = m
			continue
		}
		if b.sources[name] != nil {
			return ast.Errors{sourceError(m.Parsed.Package.Location, "there is a second file of guardrail %s", name)}
		}
		src, err := parseGuardrail(name, strings.TrimPrefix(m.Path, "/"), string(m.Raw))
		if err != nil {
			return err
		}
		b.sources[name] = src
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		if b.sources[name] == nil {
			return fmt.Errorf("there are tests of %s, but no such guardrail", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.sources)) {
		if err := b.sources[name].checkTests(ctx, tests[name]); err != nil {
			return fmt.Errorf("guardrail %s: %w", name, singleLineError(err))
		}
	}
	return nil
}

// checkTests reports whether a guardrail of a bundle compiles, judges an example and passes its tests.
func (s *source) checkTests(ctx context.Context, tests bundle.ModuleFile) error {
	query, err := compileQuery(ctx, s)
	if err != nil {
		return err
	}
	p := &Prepared{name: s.name, about: s.about, parameters: ast.ObjectTerm(), query: query}
	if err := p.evaluateExample(ctx); err != nil {
		return fmt.Errorf("judging an example: %w", err)
	}
	if tests.Parsed == nil {
		return nil
	}
	module, err := parseTests(s, strings.TrimPrefix(tests.Path, "/"), string(tests.Raw))
	if err != nil {
		return err
	}
	return runTestModule(ctx, s, module)
}

// guardrailName is the name of the guardrail of a package.
func guardrailName(path ast.Ref) (string, bool) {
	if len(path) != len(guardrailsPackage)+1 || !path.HasPrefix(guardrailsPackage) {
		return "", false
	}
	text, ok := path[len(path)-1].Value.(ast.String)
	return strings.ReplaceAll(string(text), "_", "-"), ok
}

// sourceNamed is that of a guardrail; the bundle may be nil.
func (b *Bundle) sourceNamed(name string) (*source, error) {
	if b == nil {
		return nil, fmt.Errorf("spec.bundle: there is no bundle to take %q from", name)
	}
	if s := b.sources[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("spec.bundle: there is no %q in revision %d; there are %s", name, b.Revision, strings.Join(b.Names(), ", "))
}

// Names are those of its guardrails, sorted.
func (b *Bundle) Names() []string { return slices.Sorted(maps.Keys(b.sources)) }
