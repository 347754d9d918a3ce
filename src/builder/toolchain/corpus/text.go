package main

import (
	"fmt"
	"os"
	"regexp"
	"sort"
	"strings"
)

// Counts the words of its arguments, or of a text of its own.
func main() {
	text := strings.Join(os.Args[1:], " ")
	if text == "" {
		text = "the same words give the same counts the same way"
	}
	counts := make(map[string]int)
	for _, word := range regexp.MustCompile(`[a-z]+`).FindAllString(strings.ToLower(text), -1) {
		counts[word]++
	}
	words := make([]string, 0, len(counts))
	for word := range counts {
		words = append(words, word)
	}
	sort.Strings(words)
	for _, word := range words {
		fmt.Printf("%-10s %d\n", word, counts[word])
	}
}
