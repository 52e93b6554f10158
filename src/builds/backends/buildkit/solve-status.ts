// The lines of `--progress=rawjson`: BuildKit's SolveStatus, client/graph.go. Fields that we do not use are ignored.
import { z } from 'zod';

const vertexSchema = z.object({
  digest: z.string(),
  name: z.string().default(''),
  started: z.string().nullish(),
  completed: z.string().nullish(),
  cached: z.boolean().default(false),
  error: z.string().default(''),
});

const statusSchema = z.object({
  id: z.string(),
  vertex: z.string(),
  total: z.number().default(0),
  current: z.number().default(0),
});

const logSchema = z.object({
  vertex: z.string(),
  /** 1 is standard output, 2 standard error. */
  stream: z.number().default(1),
  /** Base64. */
  data: z.string().nullish(),
});

const warningSchema = z.object({
  /** Base64. */
  short: z.string().default(''),
});

const solveStatusSchema = z.object({
  vertexes: z.array(vertexSchema).nullish(),
  statuses: z.array(statusSchema).nullish(),
  logs: z.array(logSchema).nullish(),
  warnings: z.array(warningSchema).nullish(),
});

export type SolveStatus = z.output<typeof solveStatusSchema>;
export type Vertex = z.output<typeof vertexSchema>;
export type VertexStatus = z.output<typeof statusSchema>;
export type VertexLog = z.output<typeof logSchema>;

/** Parses one line; undefined if it is no status. */
export function findSolveStatus(line: string): SolveStatus | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return solveStatusSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}
