// A Containerfile as it is written, checked: what everything else here reads.

import type { Work } from '../work.ts';
import type { Directive } from './directives.ts';
import type { EscapeCharacter } from './expand.ts';
import type { ArgInstruction, Instruction } from './instruction.ts';

export interface ContainerFile {
  /** The image of the frontend that the file asks for. */
  readonly syntax: Directive | undefined;
  readonly check: Directive | undefined;
  readonly escapeCharacter: EscapeCharacter;
  /** What may be done to find out what the file means, in all: its text can ask for more than anybody has. */
  readonly work: Work;
  /** Before the first stage: they are for FROM, and for stages that name them. */
  readonly globalArgs: readonly ArgInstruction[];
  /** At least one. */
  readonly stages: readonly Stage[];
}

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
