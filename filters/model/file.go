package model

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
)

// modelMagic begins the file of a model; the number is that of the features' definition.
const modelMagic = "postern model 1\n"

// modelFile is a model as it stands in the file, behind the magic and before the checksum of both. Big-endian.
type modelFile struct {
	Ham, Spam    uint32
	Slope, Shift float64
	Weights      [Buckets]float32
}

// Save writes the model to a file, so that a crash leaves the old one or the new one, and readers see either whole.
func (m *Model) Save(path string) error {
	content := modelFile{Ham: uint32(m.Ham), Spam: uint32(m.Spam), Slope: m.slope, Shift: m.shift}
	copy(content.Weights[:], m.weights)
	data, err := binary.Append([]byte(modelMagic), binary.BigEndian, &content)
	if err != nil {
		return err
	}
	data = binary.BigEndian.AppendUint32(data, crc32.ChecksumIEEE(data))
	err = replaceFile(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("save the model: %w", err)
	}
	return nil
}

// Load reads a model from a file.
func Load(path string) (*Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := len(modelMagic) + binary.Size(modelFile{}) + 4
	data, err := io.ReadAll(io.LimitReader(f, int64(size)+1))
	if err != nil {
		return nil, err
	}
	if len(data) != size || !bytes.HasPrefix(data, []byte(modelMagic)) {
		return nil, fmt.Errorf("%s: not a model of this version of Postern, expected one written by postern learn", path)
	}
	data, sum := data[:size-4], binary.BigEndian.Uint32(data[size-4:])
	if crc32.ChecksumIEEE(data) != sum {
		return nil, fmt.Errorf("%s: the model is damaged (its checksum is wrong): postern learn makes it anew from the examples", path)
	}
	var content modelFile
	if _, err := binary.Decode(data[len(modelMagic):], binary.BigEndian, &content); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, w := range content.Weights {
		if math.IsNaN(float64(w)) || math.IsInf(float64(w), 0) {
			return nil, fmt.Errorf("%s: the model is damaged: a weight is no number", path)
		}
	}
	m := &Model{Ham: int(content.Ham), Spam: int(content.Spam), slope: content.Slope, shift: content.Shift}
	m.weights = append(m.weights, content.Weights[:]...)
	return m, nil
}
