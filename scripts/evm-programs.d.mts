/** Builds a program of native/evm/test under sanitizers; its path. */
export function buildProgram(name: string, kind?: 'memory' | 'threads'): Promise<string>
