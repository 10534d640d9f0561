package builderweb

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"homelab/pkg/artifact"
)

// build is what /job/J/build/U tells of itself. Its job field is not read: it
// repeats whatever was asked.
type build struct {
	uuid     string
	platform string
	start    time.Time
	finish   time.Time // zero: not told
	main     bool
}

// order is the start in milliseconds: what decides which build is the newest.
func (b build) order() int64 { return b.start.UnixMilli() }

// row is one line of /job/J: a distinct output.
type row struct {
	uuid string
	sum  string // hex; "" a failed build
	size int64
}

// decode reads exactly one JSON value.
func decode(body []byte, into any) error {
	d := json.NewDecoder(strings.NewReader(string(body)))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("no JSON answer: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON answer")
	}
	return nil
}

// parseBuild reads and checks the description of one build.
func parseBuild(body []byte) (build, error) {
	var w struct {
		UUID     string `json:"uuid"`
		Platform string `json:"platform"`
		Start    string `json:"start_time"`
		Finish   string `json:"finish_time"`
		Main     bool   `json:"main_binary"`
	}
	if err := decode(body, &w); err != nil {
		return build{}, err
	}
	b := build{uuid: strings.ToLower(w.UUID), platform: w.Platform, main: w.Main}
	if !isUUID(b.uuid) || !isPlatform(b.platform) {
		return build{}, errors.New("a build without a uuid or platform")
	}
	var err error
	if b.start, err = time.Parse(time.RFC3339, w.Start); err != nil || b.order() <= 0 {
		return build{}, errors.New("a build without a start time")
	}
	if t, err := time.Parse(time.RFC3339, w.Finish); err == nil && !t.Before(b.start) {
		b.finish = t.UTC()
	}
	b.start = b.start.UTC()
	return b, nil
}

// parseRows reads /job/J and /job/J/failed. Rows that are not well formed are
// left out: nothing can match them.
func parseRows(body []byte) ([]row, error) {
	var w struct {
		Builds *[]struct {
			UUID string `json:"uuid"`
			Main *struct {
				SHA256 string `json:"sha256"`
				Size   int64  `json:"size"`
			} `json:"main_binary"`
		} `json:"builds"`
	}
	if err := decode(body, &w); err != nil {
		return nil, err
	}
	if w.Builds == nil {
		return nil, errors.New("a job without a list of builds")
	}
	var rows []row
	for _, b := range *w.Builds {
		r := row{uuid: strings.ToLower(b.UUID)}
		if !isUUID(r.uuid) {
			continue
		}
		if b.Main != nil {
			id, err := artifact.ParseID("sha256:" + b.Main.SHA256)
			if err != nil || b.Main.Size < 0 {
				continue
			}
			r.sum, r.size = id.Hex(), b.Main.Size
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// etagOf is the ETag of a file with this id: base64 of the sum, bare.
func etagOf(id artifact.ID) string {
	sum, err := hex.DecodeString(id.Hex())
	if err != nil || !strings.HasPrefix(string(id), "sha256:") {
		return ""
	}
	return base64.StdEncoding.EncodeToString(sum)
}

// idOf is the id an ETag announces. Quotes that something on the way may have
// added are no reason to doubt it.
func idOf(etag string) (artifact.ID, error) {
	t := strings.Trim(strings.TrimPrefix(strings.TrimSpace(etag), "W/"), `"`)
	sum, err := base64.StdEncoding.Strict().DecodeString(t)
	if err != nil || len(sum) != 32 {
		return "", fmt.Errorf("its ETag %q is no sha256", etag)
	}
	return artifact.NewID([32]byte(sum)), nil
}
