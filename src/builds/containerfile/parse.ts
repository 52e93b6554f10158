// Parses a Containerfile into stages. https://docs.docker.com/reference/dockerfile/
import { createWork } from '../work.ts';
import { type Command, isFrom, parseFlags, splitCommand, splitWords } from './command.ts';
import {
  type ArgInstruction,
  atLine,
  type ContainerFile,
  type EscapeCharacter,
  type Instruction,
  InvalidContainerFile,
  InvalidSyntax,
  quote,
  type Stage,
} from './container-file.ts';
import { PLANNING } from './expand.ts';
import { joinLines, type Line, readDirectives, splitLines } from './lines.ts';
import { parseInstruction } from './parse-instruction.ts';

const MAX_CHARACTERS = 1024 * 1024;
const MAX_INSTRUCTIONS = 2000;
const STAGE_NAME = /^[a-z][a-z0-9-_.]*$/;

/** Throws InvalidContainerFile. Names of stages and images are not resolved, since that needs the values of variables. */
export function parseContainerFile(text: string): ContainerFile {
  if (text.length > MAX_CHARACTERS) throw new InvalidContainerFile(`it is longer than ${MAX_CHARACTERS} characters`);
  const physical = splitLines(text);
  const { syntax, check, escapeCharacter } = readDirectives(physical);
  const lines = joinLines(physical, escapeCharacter);
  if (lines.length > MAX_INSTRUCTIONS)
    throw new InvalidContainerFile(`it has more than ${MAX_INSTRUCTIONS} instructions`);
  const starts = lines.flatMap((line, i) => (isFrom(line.text) ? [i] : []));
  const [first] = starts;
  if (first === undefined) throw new InvalidContainerFile('it has no FROM, so there is nothing to build');
  return {
    syntax,
    check,
    escapeCharacter,
    work: createWork(PLANNING),
    globalArgs: lines.slice(0, first).map(line => parseGlobalArg(line, escapeCharacter)),
    stages: starts.map((start, i) => parseStage(lines.slice(start, starts[i + 1]), escapeCharacter)),
  };
}

/** The instructions of an ONBUILD trigger: exactly one. Throws InvalidContainerFile. */
export function parseTrigger(text: string, escapeCharacter: EscapeCharacter, line: number): Instruction {
  const [first, ...others] = joinLines(splitLines(text), escapeCharacter);
  if (!first || others.length > 0)
    throw new InvalidContainerFile(`the trigger ${quote(text)} is not one instruction`, line);
  return atLine(line, () => parseInstruction({ ...first, line }, escapeCharacter));
}

function parseGlobalArg(line: Line, escapeCharacter: EscapeCharacter): ArgInstruction {
  const instruction = atLine(line.line, () => parseInstruction(line, escapeCharacter));
  if (instruction.kind === 'arg') return instruction;
  throw new InvalidContainerFile(
    `${quote(instruction.code)} comes before the first FROM, where only ARG can be`,
    line.line,
  );
}

function parseStage([from, ...lines]: readonly Line[], escapeCharacter: EscapeCharacter): Stage {
  if (!from) throw new InvalidContainerFile('a stage has no FROM');
  const command = splitCommand(from.text, escapeCharacter);
  const { base, name, platform } = atLine(from.line, () => parseFrom(command));
  const instructions = lines.map(line => atLine(line.line, () => parseInstruction(line, escapeCharacter)));
  return { name, base, platform, instructions, line: from.line, code: from.text.trim() };
}

function parseFrom(command: Command): Pick<Stage, 'base' | 'name' | 'platform'> {
  const platform = parseFlags(command, { platform: 'text' }).get('platform')?.[0] || undefined;
  const [base, as, written, ...others] = splitWords(command.rest);
  const isNamed = as?.toLowerCase() === 'as' && written !== undefined;
  if (base === undefined || others.length > 0 || (as !== undefined && !isNamed)) {
    throw new InvalidSyntax('FROM takes an image and an optional name; expected FROM image [AS name]');
  }
  return { base, name: isNamed ? parseStageName(written) : undefined, platform };
}

function parseStageName(text: string): string {
  const name = text.toLowerCase();
  if (STAGE_NAME.test(name)) return name;
  throw new InvalidSyntax(
    `${quote(text)} cannot name a stage; a name begins with a letter and has letters, digits, "-", "_" and "."`,
  );
}
