// The faults of a Containerfile, as they are told to its author.

import { TooMuchWork } from '../work.ts';

/** The text is no Containerfile. `message` names the line, what is wrong there, and what would be right. */
export class InvalidContainerFile extends Error {
  override readonly name = 'InvalidContainerFile';
  /** From 1; undefined where the whole file is meant. */
  readonly line: number | undefined;

  constructor(reason: string, line?: number) {
    super(line === undefined ? reason : `line ${line}: ${reason}`);
    this.line = line;
  }
}

/** What is wrong with a piece of text, by one who does not know where it stands. */
export class InvalidSyntax extends Error {
  override readonly name = 'InvalidSyntax';
}

/** Does the work on behalf of a line: its InvalidSyntax, or TooMuchWork, becomes an InvalidContainerFile that names the line. */
export function atLine<T>(line: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof InvalidSyntax || error instanceof TooMuchWork)
      throw new InvalidContainerFile(error.message, line);
    throw error;
  }
}

/** A foreign word in a message: short, on one line, in quotes. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
