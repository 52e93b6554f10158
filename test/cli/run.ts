// Runs a command as it is typed, and keeps what it writes.
import { Command, CommanderError } from 'commander';

export interface Run {
  readonly out: string;
  readonly err: string;
  readonly exitCode: number;
}

export async function runCommand(made: Command, args: readonly string[]): Promise<Run> {
  const written = { out: '', err: '' };
  const configuration = {
    writeOut(text: string) {
      written.out += text;
    },
    writeErr(text: string) {
      written.err += text;
    },
  };
  for (const command of [made, ...made.commands]) command.exitOverride().configureOutput(configuration);
  try {
    await new Command('veneer').addCommand(made).parseAsync([made.name(), ...args], { from: 'user' });
    return { ...written, exitCode: 0 };
  } catch (error) {
    if (error instanceof CommanderError) return { ...written, exitCode: error.exitCode };
    throw error;
  }
}
