// A Containerfile as it is written, parsed but with no variable expanded; and what is said of one that is invalid.
import { TooMuchWork, type Work } from '../work.ts';

export interface ContainerFile {
  /** The image of the frontend that the file asks for. */
  readonly syntax: Directive | undefined;
  readonly check: Directive | undefined;
  readonly escapeCharacter: EscapeCharacter;
  /** The budget for expanding variables and finding stages, all told: a short text can ask for very much. */
  readonly work: Work;
  /** Before the first stage: they are for FROM, and for stages that name them. */
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
  /** The image, stage or `scratch` that it begins with; variables are not expanded. */
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
  /** From 1; of a trigger, that of the ONBUILD or FROM that it came with. */
  readonly line: number;
  /** Its line, continued lines joined. */
  readonly code: string;
}

/** What COPY and ADD have in common. */
export interface SourcesAndDest {
  readonly sources: readonly string[];
  /** Files that stand in the Containerfile. */
  readonly heredocs: readonly Heredoc[];
  readonly destination: string;
  readonly chown: string | undefined;
  readonly chmod: string | undefined;
  readonly isLinked: boolean;
  /** Patterns of paths that are left out, of .dockerignore's kind. */
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
  /** Whether archives are unpacked; undefined: as it is usual, local ones are. */
  readonly unpacks: boolean | undefined;
  readonly checksum: string | undefined;
}

export interface Heredoc {
  readonly name: string;
  /** Between the line and the terminator; leading tabs are removed already where `<<-` asks for it. */
  readonly content: string;
  /** Variables in the content are expanded: no part of the name is quoted. */
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
  /** Flags such as `--network=host`, for which a builder has to be allowed more than usual. */
  readonly entitlements: readonly string[];
}

export interface KeyValue {
  readonly key: string;
  readonly value: string;
}

/** A command: a list is run as it is, a text by the shell. */
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

/** What is wrong with a piece of text, without its place. */
export class InvalidSyntax extends Error {
  override readonly name = 'InvalidSyntax';
}

/** Turns an InvalidSyntax or TooMuchWork of `work` into an InvalidContainerFile that names the line. */
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
