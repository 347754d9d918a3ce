package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
)

type report struct {
	Size       int    `json:"size"`
	Compressed int    `json:"compressed"`
	Sum        string `json:"sum"`
}

// Says size, compressed size and hash of what it reads.
func main() {
	var plain, packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	if _, err := io.Copy(io.MultiWriter(&plain, writer), os.Stdin); err != nil {
		panic(err)
	}
	if err := writer.Close(); err != nil {
		panic(err)
	}
	sum := sha256.Sum256(plain.Bytes())
	encoder := json.NewEncoder(os.Stdout)
	if err := encoder.Encode(report{plain.Len(), packed.Len(), base64.StdEncoding.EncodeToString(sum[:])}); err != nil {
		panic(err)
	}
}
