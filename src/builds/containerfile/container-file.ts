// A Containerfile as written, parsed without expanding variables; and errors of invalid ones.
import { type Work, WorkLimitExceeded } from '../work.ts';

export interface ContainerFile {
  /** The frontend image that the file requests. */
  readonly syntax: Directive | undefined;
  readonly check: Directive | undefined;
  readonly escapeCharacter: EscapeCharacter;
  /** The total budget for expanding variables and finding stages: a short text can cause very much work. */
  readonly work: Work;
  /** ARGs before the first stage: used by FROM, and by stages that declare them. */
  readonly globalArgs: readonly ArgInstruction[];
  /** At least one. */
  readonly stages: readonly Stage[];
}

export interface Directive {
  readonly value: string;
  readonly line: number;
}

export type EscapeCharacter = '\\' | '`';

export interface Stage {
  /** In lower case. */
  readonly name: string | undefined;
  /** The image, stage or `scratch` that it starts from, unexpanded. */
  readonly base: string;
  readonly platform: string | undefined;
  readonly instructions: readonly Instruction[];
  readonly line: number;
  readonly code: string;
}

export type Instruction =
  | ArgInstruction
  | CopyInstruction
  | AddInstruction
  | RunInstruction
  | (Positioned & { readonly kind: 'env' | 'label'; readonly pairs: readonly KeyValue[] })
  | (Positioned & { readonly kind: 'workdir' | 'user' | 'stopsignal' | 'maintainer'; readonly value: string })
  | (Positioned & { readonly kind: 'cmd' | 'entrypoint'; readonly command: CommandLine })
  | (Positioned & { readonly kind: 'shell'; readonly shell: readonly string[] })
  | (Positioned & { readonly kind: 'expose' | 'volume'; readonly values: readonly string[] })
  | (Positioned & { readonly kind: 'healthcheck'; readonly healthcheck: Healthcheck })
  /** `trigger` is the text of an instruction. */
  | (Positioned & { readonly kind: 'onbuild'; readonly trigger: string });

interface Positioned {
  /** One-based; for a trigger, the line of its ONBUILD or FROM. */
  readonly line: number;
  /** Its line, with continuation lines joined. */
  readonly code: string;
}

/** Common to COPY and ADD. */
export interface SourcesAndDest {
  readonly sources: readonly string[];
  /** Inline files (heredocs). */
  readonly heredocs: readonly Heredoc[];
  readonly destination: string;
  readonly chown: string | undefined;
  readonly chmod: string | undefined;
  readonly isLinked: boolean;
  /** Patterns of excluded paths, as in .dockerignore. */
  readonly excludes: readonly string[];
}

export interface CopyInstruction extends Positioned, SourcesAndDest {
  readonly kind: 'copy';
  /** The name or number of a stage, or an image. */
  readonly from: string | undefined;
  readonly keepsParents: boolean;
}

export interface AddInstruction extends Positioned, SourcesAndDest {
  readonly kind: 'add';
  /** Whether to unpack archives; undefined: local ones only. */
  readonly unpacks: boolean | undefined;
  readonly checksum: string | undefined;
}

export interface Heredoc {
  readonly name: string;
  /** Without the delimiters; leading tabs are already removed for `<<-`. */
  readonly content: string;
  /** Whether variables in the content are expanded, as no part of the name is quoted. */
  readonly isExpanded: boolean;
}

export interface ArgInstruction extends Positioned {
  readonly kind: 'arg';
  readonly args: readonly { readonly key: string; readonly value: string | undefined }[];
}

export interface RunInstruction extends Positioned {
  readonly kind: 'run';
  /** Stages and images that its mounts read from. */
  readonly mountSources: readonly string[];
  /** Flags such as `--network=host` that need additional entitlements. */
  readonly entitlements: readonly string[];
}

export interface KeyValue {
  readonly key: string;
  readonly value: string;
}

/** A command: a list is executed directly, a string by the shell. */
export type CommandLine = { readonly form: 'exec'; readonly args: readonly string[] } | ShellForm;

interface ShellForm {
  readonly form: 'shell';
  readonly text: string;
}

/** Durations in nanoseconds, as image configs have them; 0: the engine's default. */
export interface Healthcheck {
  readonly test: readonly string[];
  readonly interval: number;
  readonly timeout: number;
  readonly startPeriod: number;
  readonly startInterval: number;
  readonly retries: number;
}

/** The Containerfile is invalid. `message` names the line, what is wrong there, and what would be right. */
export class InvalidContainerFile extends Error {
  override readonly name = 'InvalidContainerFile';
  /** One-based; undefined for the whole file. */
  readonly line: number | undefined;

  constructor(reason: string, line?: number) {
    super(line === undefined ? reason : `line ${line}: ${reason}`);
    this.line = line;
  }
}

/** What is wrong with a piece of text, without its location. */
export class InvalidSyntax extends Error {
  override readonly name = 'InvalidSyntax';
}

/** Turns an InvalidSyntax or WorkLimitExceeded of `work` into an InvalidContainerFile with the line. */
export function atLine<T>(line: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof InvalidSyntax || error instanceof WorkLimitExceeded)
      throw new InvalidContainerFile(error.message, line);
    throw error;
  }
}

/** Foreign text in a message: short, on one line, quoted. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
