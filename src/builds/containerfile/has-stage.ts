// Whether a name is a stage's, told from the text alone: that of a Containerfile which only its builder understands, too.

/** A line of a heredoc that looks like a FROM counts as one. */
export function hasStage(containerFile: string, name: string): boolean {
  return containerFile.split('\n').some(line => {
    const words = line
      .trim()
      .toLowerCase()
      .split(/[ \t]+/);
    return words[0] === 'from' && words.at(-2) === 'as' && words.at(-1) === name.toLowerCase();
  });
}
