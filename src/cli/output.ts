// What commands write: what a script wants goes to standard output, explanations go to standard error.
import type { Command } from 'commander';

export function print(self: Command, line: string): void {
  self.configureOutput().writeOut?.(`${line}\n`);
}

export function explain(self: Command, line: string): void {
  self.configureOutput().writeErr?.(`${line}\n`);
}
