// Whether a name is a stage's, told from the text alone: that of a Containerfile which only its builder understands, too.

/** A line of a heredoc that looks like a FROM counts as one. */
export function hasStage(containerFile: string, name: string): boolean {
  const stages = containerFile.matchAll(/^[ \t]*FROM[ \t].*[ \t]AS[ \t]+(\S+)\s*$/gim);
  return [...stages].some(([, stage]) => stage?.toLowerCase() === name.toLowerCase());
}
