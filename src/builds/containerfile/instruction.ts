// The instructions of a stage as they are written: variables are not expanded yet.
import type { CommandLine, KeyValue } from './arguments.ts';
import type { Heredoc } from './heredoc.ts';

interface Written {
  /** From 1; of a trigger, that of the ONBUILD or FROM that it came with. */
  readonly line: number;
  /** Its line, continued lines joined. */
  readonly code: string;
}

/** What COPY and ADD have in common. */
export interface Transfer {
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

export interface CopyInstruction extends Written, Transfer {
  readonly kind: 'copy';
  /** The name or number of a stage, or an image. */
  readonly from: string | undefined;
  readonly keepsParents: boolean;
}

export interface AddInstruction extends Written, Transfer {
  readonly kind: 'add';
  /** Whether archives are unpacked; undefined: as it is usual, local ones are. */
  readonly unpacks: boolean | undefined;
  readonly checksum: string | undefined;
}

export interface ArgInstruction extends Written {
  readonly kind: 'arg';
  readonly args: readonly { readonly key: string; readonly value: string | undefined }[];
}

export interface RunInstruction extends Written {
  readonly kind: 'run';
  /** Stages and images that its mounts read from. */
  readonly mountSources: readonly string[];
  /** Such as `--network=host`: what needs a leave that no builder gives by itself, or should not. */
  readonly demands: readonly string[];
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

export type Instruction =
  | ArgInstruction
  | CopyInstruction
  | AddInstruction
  | RunInstruction
  | (Written & { readonly kind: 'env' | 'label'; readonly pairs: readonly KeyValue[] })
  | (Written & { readonly kind: 'workdir' | 'user' | 'stopsignal' | 'maintainer'; readonly value: string })
  | (Written & { readonly kind: 'cmd' | 'entrypoint'; readonly command: CommandLine })
  | (Written & { readonly kind: 'shell'; readonly shell: readonly string[] })
  | (Written & { readonly kind: 'expose' | 'volume'; readonly values: readonly string[] })
  | (Written & { readonly kind: 'healthcheck'; readonly healthcheck: Healthcheck })
  /** `trigger` is the text of an instruction. */
  | (Written & { readonly kind: 'onbuild'; readonly trigger: string });
